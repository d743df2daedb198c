// The Cosmos DB account, its containers, and who may do what in them. containers.json is written from
// shards/cosmos_containers.py; it leaves the embedding model open, which the parameters name.
param name string
param location string
param tags object

@allowed(['serverless', 'autoscale'])
param capacity string

param maxThroughput int

@allowed(['Session', 'Strong'])
param consistency string

param databaseName string
param embeddingModel string
param embeddingDimensions int
param isolated bool
param endpointSubnetId string
param dnsZoneId string
param appPrincipalId string
param operatorPrincipalId string

var containers = json(replace(
  replace(
    replace(loadTextContent('containers.json'), '"{dimensions}"', string(embeddingDimensions)),
    '{dimensions}',
    string(embeddingDimensions)
  ),
  '{model}',
  embeddingModel
))
var principals = empty(operatorPrincipalId) ? [appPrincipalId] : [appPrincipalId, operatorPrincipalId]
var grants = flatten(map(principals, principal => map(containers, item => {
  principal: principal
  container: item.id
})))
var searchCapabilities = [
  {
    name: 'EnableNoSQLVectorSearch'
  }
  {
    name: 'EnableNoSQLFullTextSearch'
  }
]

resource account 'Microsoft.DocumentDB/databaseAccounts@2025-04-15' = {
  name: name
  location: location
  tags: tags
  kind: 'GlobalDocumentDB'
  properties: {
    databaseAccountOfferType: 'Standard'
    locations: [
      {
        locationName: location
        failoverPriority: 0
        isZoneRedundant: false
      }
    ]
    consistencyPolicy: {
      defaultConsistencyLevel: consistency
    }
    capabilities: capacity == 'serverless'
      ? concat(searchCapabilities, [{ name: 'EnableServerless' }])
      : searchCapabilities
    backupPolicy: {
      type: 'Continuous'
      continuousModeProperties: {
        tier: 'Continuous7Days'
      }
    }
    disableLocalAuth: true
    disableKeyBasedMetadataWriteAccess: true
    minimalTlsVersion: 'Tls12'
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
  }
}

resource database 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2025-04-15' = {
  parent: account
  name: databaseName
  properties: {
    resource: {
      id: databaseName
    }
  }
}

// Cosmos DB refuses a change of the account while another is under way, and of the database too many at once: from here
// on each waits for the one before.
@batchSize(1)
resource container 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2025-04-15' = [
  for item in containers: {
    parent: database
    name: item.id
    properties: {
      resource: item
      options: capacity == 'serverless' ? {} : { autoscaleSettings: { maxThroughput: maxThroughput } }
    }
  }
]

// Narrower than the built-in contributor: no stored procedures, no conflicts, and the change feed of one container.
resource readsMetadata 'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions@2025-04-15' = {
  parent: account
  name: guid(account.id, 'reads metadata')
  properties: {
    roleName: 'Shardline: reads metadata'
    type: 'CustomRole'
    assignableScopes: [account.id]
    permissions: [
      {
        dataActions: ['Microsoft.DocumentDB/databaseAccounts/readMetadata']
      }
    ]
  }
  dependsOn: [container]
}

resource readsAndWritesItems 'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions@2025-04-15' = {
  parent: account
  name: guid(account.id, 'reads and writes items')
  properties: {
    roleName: 'Shardline: reads and writes items'
    type: 'CustomRole'
    assignableScopes: [account.id]
    permissions: [
      {
        dataActions: [
          'Microsoft.DocumentDB/databaseAccounts/readMetadata'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/executeQuery'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/create'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/delete'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/read'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/replace'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/upsert'
        ]
      }
    ]
  }
  dependsOn: [readsMetadata]
}

resource followsChanges 'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions@2025-04-15' = {
  parent: account
  name: guid(account.id, 'follows changes')
  properties: {
    roleName: 'Shardline: follows changes'
    type: 'CustomRole'
    assignableScopes: [account.id]
    permissions: [
      {
        dataActions: [
          'Microsoft.DocumentDB/databaseAccounts/readMetadata'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/readChangeFeed'
        ]
      }
    ]
  }
  dependsOn: [readsAndWritesItems]
}

// The SDKs read the account itself first, which only a grant on the whole account allows.
@batchSize(1)
resource metadataGrant 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = [
  for principal in principals: {
    parent: account
    name: guid(readsMetadata.id, principal, account.id)
    properties: {
      principalId: principal
      roleDefinitionId: readsMetadata.id
      scope: account.id
    }
    dependsOn: [followsChanges]
  }
]

@batchSize(1)
resource itemGrant 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = [
  for grant in grants: {
    parent: account
    name: guid(readsAndWritesItems.id, grant.principal, grant.container)
    properties: {
      principalId: grant.principal
      roleDefinitionId: readsAndWritesItems.id
      scope: '${account.id}/dbs/${databaseName}/colls/${grant.container}'
    }
    dependsOn: [metadataGrant]
  }
]

resource changeGrant 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = {
  parent: account
  name: guid(followsChanges.id, appPrincipalId, 'shards')
  properties: {
    principalId: appPrincipalId
    roleDefinitionId: followsChanges.id
    scope: '${account.id}/dbs/${databaseName}/colls/shards'
  }
  dependsOn: [itemGrant]
}

module endpoint 'private-endpoint.bicep' = if (isolated) {
  name: 'cosmos-endpoint'
  params: {
    serviceName: name
    serviceId: account.id
    location: location
    tags: tags
    subnetId: endpointSubnetId
    dnsZoneId: dnsZoneId
    part: 'Sql'
  }
  dependsOn: [changeGrant]
}

output endpoint string = account.properties.documentEndpoint
