// One Azure OpenAI account without keys: its deployments, and who may call it.

@description('Name of the account, and of its host: NAME.openai.azure.com. Must be free in all of Azure.')
param name string
param location string
@description('Who may call: the principal id of the gateway\'s identity.')
param principalId string
@description('List of { name, sku, capacity, model, version }.')
param deployments array

// Cognitive Services OpenAI User: may ask, may not change anything.
var openAiUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource account 'Microsoft.CognitiveServices/accounts@2024-10-01' = {
  name: name
  location: location
  kind: 'OpenAI'
  sku: {
    name: 'S0'
  }
  properties: {
    // Entra tokens need a host of the account's own.
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
  }
}

// One after the other: an account refuses a second change while one is under way.
@batchSize(1)
resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2024-10-01' = [for item in deployments: {
  parent: account
  name: item.name
  sku: {
    name: item.sku
    capacity: item.capacity
  }
  properties: {
    model: {
      format: 'OpenAI'
      name: item.model
      version: item.version
    }
    versionUpgradeOption: 'OnceCurrentVersionExpired'
  }
}]

resource mayCall 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, principalId, openAiUser)
  scope: account
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', openAiUser)
  }
}

output url string = 'https://${name}.openai.azure.com'
