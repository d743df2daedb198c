// The Service Bus namespace and its queues. queues.json is written from messaging/queues.py.
param name string
param location string
param tags object

@allowed(['Standard', 'Premium'])
param sku string

param messagingUnits int
param isolated bool
param endpointSubnetId string
param dnsZoneId string
param appPrincipalId string
param appManagesQueues bool
param operatorPrincipalId string
param operatorPrincipalType string

var queues = loadJsonContent('queues.json')

var dataSender = subscriptionResourceId(
  'Microsoft.Authorization/roleDefinitions',
  '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'
)
var dataReceiver = subscriptionResourceId(
  'Microsoft.Authorization/roleDefinitions',
  '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
)
var dataOwner = subscriptionResourceId(
  'Microsoft.Authorization/roleDefinitions',
  '090c5cfd-751d-490a-894a-3ce6f1109419'
)

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: sku
    tier: sku
    capacity: sku == 'Premium' ? messagingUnits : null
  }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
  }
}

resource queue 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [
  for item in queues: {
    parent: namespace
    name: item.name
    properties: item.properties
  }
]

resource appSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (item, index) in queues: {
    scope: queue[index]
    name: guid(queue[index].id, appPrincipalId, dataSender)
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: dataSender
    }
  }
]

resource appReceives 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (item, index) in queues: {
    scope: queue[index]
    name: guid(queue[index].id, appPrincipalId, dataReceiver)
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: dataReceiver
    }
  }
]

resource appManages 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (item, index) in queues: if (appManagesQueues) {
    scope: queue[index]
    name: guid(queue[index].id, appPrincipalId, dataOwner)
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: dataOwner
    }
  }
]

resource operatorSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (item, index) in queues: if (!empty(operatorPrincipalId)) {
    scope: queue[index]
    name: guid(queue[index].id, operatorPrincipalId, dataSender)
    properties: {
      principalId: operatorPrincipalId
      principalType: operatorPrincipalType
      roleDefinitionId: dataSender
    }
  }
]

resource operatorReceives 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (item, index) in queues: if (!empty(operatorPrincipalId)) {
    scope: queue[index]
    name: guid(queue[index].id, operatorPrincipalId, dataReceiver)
    properties: {
      principalId: operatorPrincipalId
      principalType: operatorPrincipalType
      roleDefinitionId: dataReceiver
    }
  }
]

module endpoint 'private-endpoint.bicep' = if (isolated) {
  name: 'service-bus-endpoint'
  params: {
    serviceName: name
    serviceId: namespace.id
    location: location
    tags: tags
    subnetId: endpointSubnetId
    dnsZoneId: dnsZoneId
    part: 'namespace'
  }
}

output id string = namespace.id
output name string = namespace.name
output host string = '${namespace.name}.servicebus.windows.net'
