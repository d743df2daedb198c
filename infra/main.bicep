// Everything that Shardline needs on Azure, in one resource group. docs/deploy.md explains each parameter.
targetScope = 'subscription'

@description('Names the environment: part of the resource group name, and of what makes the other names unique.')
@minLength(1)
@maxLength(40)
param environmentName string

@description('The region of all resources. It must offer Flex Consumption.')
@minLength(1)
param location string

@description('Memory of an instance of the app, in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('The most instances that the app may grow to, over all its functions.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 100

@description('Instances that are kept ready for HTTP, so that a webhook is answered in time after a quiet hour. 0: none.')
@minValue(0)
@maxValue(20)
param alwaysReadyHttpInstances int = 1

@description('The tier of the Service Bus namespace. Network isolation needs Premium and takes it.')
@allowed(['Standard', 'Premium'])
param serviceBusSku string = 'Standard'

@description('Messaging units of a Premium namespace.')
@allowed([1, 2, 4, 8, 16])
param serviceBusMessagingUnits int = 1

@description('Gives the app the right to manage its queues, not only to send and receive: see docs/deploy.md on scaling.')
param manageQueues bool = false

@description('How Cosmos DB is paid: by request (serverless), or by capacity that follows the load (autoscale).')
@allowed(['serverless', 'autoscale'])
param cosmosCapacity string = 'serverless'

@description('The most request units a second that one container may grow to, where the capacity is autoscale.')
@minValue(1000)
param cosmosMaxThroughput int = 4000

@description('Strong: a step always sees what the one before has written, at twice the request units a read. With Session a step may miss it; docs/cosmos.md tells what that can cost.')
@allowed(['Strong', 'Session'])
param cosmosConsistency string = 'Strong'

@description('The Cosmos DB database.')
param cosmosDatabase string = 'shardline'

@description('The embedding model whose vectors are stored: part of the name of the container of chunks.')
param embeddingModel string = 'wordllama-l2-supercat-256'

@description('The length of a vector of that model.')
@minValue(1)
@maxValue(4096)
param embeddingDimensions int = 256

@description('The blob container of large payloads and file texts.')
param blobContainer string = 'shardline'

@description('Days that large payloads are kept: longer than any message that names them.')
@minValue(15)
@maxValue(3650)
param payloadDays int = 90

@description('Who issues the tokens of readers: the iss claim.')
@minLength(1)
param tokenIssuer string

@description('Whom the tokens of readers are made for: the aud claim.')
@minLength(1)
param tokenAudience string

@description('Where that issuer publishes its keys (JWKS).')
@minLength(1)
param tokenKeysUrl string

@description('The claim of a token that names the tenant.')
@minLength(1)
param tokenTenantClaim string = 'tenant'

@description('The claim of a token that holds the user\'s e-mail address.')
@minLength(1)
param tokenUserClaim string = 'sub'

@description('When due connections are looked for (NCRONTAB, seconds first, UTC).')
param pollSchedule string = '0 * * * * *'

@description('When what stayed behind is emitted again (NCRONTAB).')
param reconcileSchedule string = '0 */5 * * * *'

@description('Keeps Service Bus, Cosmos DB, storage and Key Vault off the public network; the app reaches them through a virtual network.')
param isolateNetwork bool = false

@description('The address range of that virtual network: /20 or larger.')
param virtualNetworkRange string = '10.40.0.0/16'

@description('Object id of the user, group or service principal that runs the operator commands. Empty: nobody may.')
param operatorPrincipalId string = ''

@description('What that object id is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string = 'User'

@description('Address that alerts are mailed to. Empty: alerts are shown in the portal only.')
param alertEmail string = ''

@description('Share of the traces that are recorded, each of them whole: 0 to 1.')
param traceShare string = '0.1'

@description('Days that logs and traces are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = {
  'azd-env-name': environmentName
}

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'identity.bicep' = {
  scope: group
  name: 'identity'
  params: {
    name: 'id-${token}'
    location: location
    tags: tags
  }
}

module monitoring 'monitoring.bicep' = {
  scope: group
  name: 'monitoring'
  params: {
    workspaceName: 'log-${token}'
    componentName: 'appi-${token}'
    location: location
    tags: tags
    retentionDays: logRetentionDays
    appPrincipalId: identity.outputs.principalId
  }
}

module network 'network.bicep' = if (isolateNetwork) {
  scope: group
  name: 'network'
  params: {
    name: 'vnet-${token}'
    location: location
    tags: tags
    addressRange: virtualNetworkRange
  }
}

module serviceBus 'service-bus.bicep' = {
  scope: group
  name: 'service-bus'
  params: {
    name: 'sb-${token}'
    location: location
    tags: tags
    sku: isolateNetwork ? 'Premium' : serviceBusSku
    messagingUnits: serviceBusMessagingUnits
    isolated: isolateNetwork
    endpointSubnetId: isolateNetwork ? network!.outputs.endpointSubnetId : ''
    dnsZoneId: isolateNetwork ? network!.outputs.serviceBusZoneId : ''
    appPrincipalId: identity.outputs.principalId
    appManagesQueues: manageQueues
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
  }
}

module cosmos 'cosmos.bicep' = {
  scope: group
  name: 'cosmos'
  params: {
    name: 'cosmos-${token}'
    location: location
    tags: tags
    capacity: cosmosCapacity
    maxThroughput: cosmosMaxThroughput
    consistency: cosmosConsistency
    databaseName: cosmosDatabase
    embeddingModel: embeddingModel
    embeddingDimensions: embeddingDimensions
    isolated: isolateNetwork
    endpointSubnetId: isolateNetwork ? network!.outputs.endpointSubnetId : ''
    dnsZoneId: isolateNetwork ? network!.outputs.cosmosZoneId : ''
    appPrincipalId: identity.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
  }
}

module storage 'storage.bicep' = {
  scope: group
  name: 'storage'
  params: {
    name: 'st${token}'
    location: location
    tags: tags
    blobContainerName: blobContainer
    payloadDays: payloadDays
    isolated: isolateNetwork
    endpointSubnetId: isolateNetwork ? network!.outputs.endpointSubnetId : ''
    dnsZoneId: isolateNetwork ? network!.outputs.blobZoneId : ''
    appPrincipalId: identity.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
  }
}

module keyVault 'key-vault.bicep' = {
  scope: group
  name: 'key-vault'
  params: {
    name: 'kv-${token}'
    location: location
    tags: tags
    isolated: isolateNetwork
    endpointSubnetId: isolateNetwork ? network!.outputs.endpointSubnetId : ''
    dnsZoneId: isolateNetwork ? network!.outputs.keyVaultZoneId : ''
    appPrincipalId: identity.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
  }
}

module functionApp 'function-app.bicep' = {
  scope: group
  name: 'function-app'
  params: {
    planName: 'plan-${token}'
    appName: 'func-${token}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyHttpInstances: alwaysReadyHttpInstances
    subnetId: isolateNetwork ? network!.outputs.appSubnetId : ''
    deploymentContainerUrl: storage.outputs.deploymentContainerUrl
    storageAccountName: storage.outputs.name
    serviceBusHost: serviceBus.outputs.host
    cosmosEndpoint: cosmos.outputs.endpoint
    keyVaultUrl: keyVault.outputs.url
    applicationInsightsConnection: monitoring.outputs.connectionString
    shardlineSettings: {
      SHARDLINE_HOME: 'azure'
      SHARDLINE_COSMOS_DATABASE: cosmosDatabase
      SHARDLINE_BLOB_CONTAINER: blobContainer
      SHARDLINE_PAYLOAD_DAYS: string(payloadDays)
      SHARDLINE_TOKEN_ISSUER: tokenIssuer
      SHARDLINE_TOKEN_AUDIENCE: tokenAudience
      SHARDLINE_TOKEN_KEYS_URL: tokenKeysUrl
      SHARDLINE_TOKEN_TENANT_CLAIM: tokenTenantClaim
      SHARDLINE_TOKEN_USER_CLAIM: tokenUserClaim
      SHARDLINE_POLL_SCHEDULE: pollSchedule
      SHARDLINE_RECONCILE_SCHEDULE: reconcileSchedule
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio'
      OTEL_TRACES_SAMPLER_ARG: traceShare
    }
  }
}

module alerts 'alerts.bicep' = {
  scope: group
  name: 'alerts'
  params: {
    applicationInsightsId: monitoring.outputs.componentId
    logAnalyticsId: monitoring.outputs.workspaceId
    serviceBusNamespaceId: serviceBus.outputs.id
    serviceBusNamespaceName: serviceBus.outputs.name
    location: location
    actionGroupEmail: alertEmail
    tags: tags
  }
}

// The names by which `azd env get-values` gives them. The operator commands take those that are settings as they are.
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_FUNCTION_APP_NAME string = functionApp.outputs.name
output AZURE_KEY_VAULT_NAME string = keyVault.outputs.name
output SHARDLINE_API string = functionApp.outputs.api
output SHARDLINE_HOME string = 'azure'
output SHARDLINE_COSMOS_DATABASE string = cosmosDatabase
output SHARDLINE_BLOB_CONTAINER string = blobContainer
output SHARDLINE_KEY_VAULT_URL string = keyVault.outputs.url
output SHARDLINE_TOKEN_ISSUER string = tokenIssuer
output SHARDLINE_TOKEN_AUDIENCE string = tokenAudience
output SHARDLINE_TOKEN_KEYS_URL string = tokenKeysUrl
output SHARDLINE_TOKEN_TENANT_CLAIM string = tokenTenantClaim
output SHARDLINE_TOKEN_USER_CLAIM string = tokenUserClaim
output ServiceBusConnection__fullyQualifiedNamespace string = serviceBus.outputs.host
output CosmosConnection__accountEndpoint string = cosmos.outputs.endpoint
output AzureWebJobsStorage__accountName string = storage.outputs.name
